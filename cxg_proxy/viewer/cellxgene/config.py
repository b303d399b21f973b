"""cellxgene's configuration objects, without the ports, environment variables and annotation paths of a server."""

from __future__ import annotations

import secrets
from typing import Any

from server.common.config.app_config import AppConfig
from server.common.config.dataset_config import DatasetConfig
from server.common.config.server_config import ServerConfig

from .labels import CellxgeneAnnotations

_APP_ATTRIBUTES = {
    "app__verbose": bool,
    "app__debug": bool,
    "app__host": str,
    "app__port": type(None),
    "app__open_browser": bool,
    "app__force_https": bool,
    "app__flask_secret_key": str,
    "app__generate_cache_control_headers": bool,
}


class Configuration(AppConfig):  # type: ignore[misc]  # cellxgene has no types
    """cellxgene's whole configuration for one dataset and one user's labels."""

    def __init__(self, dataset: str, labels: CellxgeneAnnotations):
        super().__init__()
        self.server_config = _Server(self, self.default_config["server"])
        self.dataset_config = _Dataset(labels, self, self.default_config["dataset"])
        self.external_config.update(environment=[])  # nothing is taken from environment variables
        self.update_server_config(
            single_dataset__datapath=dataset,
            data_locator__s3__region_name=None,
            app__flask_secret_key=secrets.token_urlsafe(32),
        )


class _Server(ServerConfig):  # type: ignore[misc]  # cellxgene has no types
    def handle_app(self, context: Any) -> None:
        # cellxgene's method tries TCP ports here, and sets sys.tracebacklimit to 0 for the whole process.
        for name, kind in _APP_ATTRIBUTES.items():
            self.validate_correct_type_of_configuration_attribute(name, kind)


class _Dataset(DatasetConfig):  # type: ignore[misc]  # cellxgene has no types
    def __init__(self, labels: CellxgeneAnnotations, app_config: AppConfig, defaults: dict[str, Any]):
        super().__init__(None, app_config, defaults)
        self._labels = labels

    def get_data_adaptor(self) -> Any:
        return self.app_config.server_config.data_adaptor

    def handle_local_file_csv_annotations(self, context: Any) -> None:
        self.user_annotations = self._labels
