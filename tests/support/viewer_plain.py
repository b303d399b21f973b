"""Plain cellxgene as `cellxgene launch` builds it, on its development server, but listening on a unix socket."""

import json
import os
import resource
import sys
import threading

from server.cli.launch import CliLaunchServer
from server.common.config.app_config import AppConfig
from werkzeug.serving import make_server


def main(dataset: str, socket: str) -> None:
    """Serve until standard input ends."""
    config = AppConfig()
    config.update_server_config(single_dataset__datapath=dataset, app__flask_secret_key="SparkleAndShine")
    config.update_server_config(app__generate_cache_control_headers=True)  # cellxgene's option that lets browsers cache
    config.update_dataset_config(user_annotations__local_file_csv__directory=os.path.abspath("labels"))
    config.complete_config()
    app = CliLaunchServer(config).app
    server = make_server(f"unix://{socket}", 0, app, threaded=True)
    if "SMALL_FILES" in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["SMALL_FILES"]), resource.RLIM_INFINITY))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    step = {"phase": "ready", "tracebacklimit": getattr(sys, "tracebacklimit", None)}
    os.write(1, json.dumps(step).encode() + b"\n")
    sys.stdin.read()
    os._exit(0)


main(*sys.argv[1:])
