"""Answers of plain cellxgene without its server, which would cut small ones: JSON lines in, JSON lines out."""

import base64
import contextlib
import json
import os
import sys
import tempfile
import warnings
from typing import Any

from server.cli.launch import CliLaunchServer
from server.common.config.app_config import AppConfig

warnings.simplefilter("ignore")


def application(dataset: str) -> Any:
    """Build cellxgene as `cellxgene launch` does, with labels in a temporary folder."""
    config = AppConfig()
    config.update_server_config(single_dataset__datapath=dataset, app__flask_secret_key="SparkleAndShine")
    config.update_dataset_config(user_annotations__local_file_csv__directory=tempfile.mkdtemp(dir="."))
    config.complete_config()
    return CliLaunchServer(config).app


def answer(client: Any, ask: dict[str, Any]) -> dict[str, Any]:
    reply = client.open(ask["target"], method=ask["method"], data=ask["body"], headers=ask["headers"])
    return {"status": reply.status_code, "body": base64.b64encode(reply.get_data()).decode()}


def main() -> None:
    """Answer until standard input ends; a line with a dataset opens it for the lines that follow."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    client: Any = None
    for line in sys.stdin:
        ask = json.loads(line)
        if "dataset" in ask:
            with contextlib.redirect_stdout(sys.stderr):
                client = application(ask["dataset"]).test_client()
            said: dict[str, Any] = {}
        else:
            said = answer(client, ask)
        out.write(json.dumps(said) + "\n")
        out.flush()


main()
