"""What an administrator may set for every user's cellxgene. The lines that are commented out show the defaults.

Copy it to /etc/jupyter/ or, for one environment only, to <environment>/etc/jupyter/. A user's own ~/.jupyter/ is read
too and wins. Gateways that run already read it at their next start. `cxg-proxy --help-all` lists every option there is.
"""

c = get_config()

# --- What people see ----------------------------------------------------------------------------------------------

# Shared folders with .h5ad files, as name: folder. Jupyter's own folder is always there, as "home". Users see the
# files that their account may read; links to these datasets work for every user of the hub.
# c.Gateway.libraries = {"atlas": "/srv/datasets/atlas", "course": "/srv/datasets/course"}

# Datasets at http(s) addresses, as name: address. Each user downloads a copy into the cache at the first visit.
# c.Gateway.remotes = {"lung": "https://example.org/lung.h5ad"}

# The title of the list of datasets.
# c.Gateway.title = "cellxgene"

# Look at no more files and folders than this in each library.
# c.Gateway.scan_limit = 100_000

# Whether symbolic links may lead out of a library; None is yes, and no with read_only.
# c.Gateway.follow_symlinks = None

# Show labels and gene sets, but let nobody change them.
# c.Gateway.read_only = False

# --- What each user may take --------------------------------------------------------------------------------------

# At most so many viewers run at once; opening one more closes one that nobody looks at.
# c.Gateway.max_instances = 4

# Each viewer may use this many bytes of memory; 0 is no limit. A viewer needs about twice the size of its file
# uncompressed. Beyond the limit only this one viewer ends, and its page says why.
# c.Gateway.memory_limit = 0

# Close a viewer nobody has used for so many seconds; 0 is never. Nothing is lost, and opening it again is quick.
# c.Gateway.idle_seconds = 1800

# A viewer used in the last so many seconds is not closed to make room for another.
# c.Gateway.in_use_seconds = 120

# Give up on a viewer that is not ready in so many seconds; 0 is never. Raise it for slow network storage.
# c.Gateway.start_timeout = 600

# Requests that one viewer works on at once, and the largest request in bytes.
# c.Gateway.viewer_threads = 4
# c.Gateway.max_body = 256_000_000

# --- The viewers --------------------------------------------------------------------------------------------------

# The Python of the environment that has cxg-proxy[viewer]; by default the one that runs the gateway. cellxgene pins
# old versions of numpy and others: give it an environment of its own where that disturbs.
# c.Gateway.viewer_python = "/opt/cellxgene/bin/python"

# cellxgene's own options by their cellxgene names, for every dataset. A file <dataset>.cxg.yaml beside a dataset adds
# to these for that one.
# c.Gateway.viewer_options = {"disable_diffexp": False, "max_category_items": 1000}

# The same for single datasets, by name.
# c.Gateway.dataset_options = {"atlas/lung.h5ad": {"about": "https://example.org/lung"}}

# Environment variables for the viewers; of the gateway's own they inherit only harmless ones.
# c.Gateway.viewer_environment = {"OMP_NUM_THREADS": "2"}

# --- Where things are kept ----------------------------------------------------------------------------------------

# Labels and gene sets of a user. Keep it below the home folder, or wherever there is a backup.
# c.Gateway.home = "~/cellxgene"

# The old versions of one dataset's labels and gene sets may take this many bytes; the oldest go first, the last one of
# each day at the very end.
# c.Gateway.history_limit = 200_000_000

# What can be computed again, and the viewers' logs; by default the user's usual folders for these.
# c.Gateway.cache = "~/.cache/cxg-proxy"
# c.Gateway.logs = "~/.local/state/cxg-proxy/log"
