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

# Each viewer may use this many bytes of memory; 0 is no limit. A viewer needs some 400 MB beside its table of cells:
# prepared files do not count. Where none are kept (cache_limit), it also needs twice its values, uncompressed, as soon
# as a gene is asked for. Beyond the limit only this one request or viewer ends, and its page says why.
# c.Gateway.memory_limit = 0

# Close a viewer nobody has used for so many seconds; 0 is never. Nothing is lost, and opening it again is quick.
# c.Gateway.idle_seconds = 1800

# A viewer used in the last so many seconds is not closed to make room for another.
# c.Gateway.in_use_seconds = 120

# Keep cellxgene loaded (some 150 MB for each user, which the viewers share; more where it was not compiled, see
# viewer_python) from the first look at the list until so many seconds after the last look or viewer: a viewer is there
# in a fraction of a second then. 0 is never.
# c.Gateway.preload_idle_seconds = 600

# Give up on a viewer that is not ready in so many seconds; 0 is never. Raise it for slow network storage.
# c.Gateway.start_timeout = 600

# Requests that one viewer works on at once, and the largest request in bytes.
# c.Gateway.viewer_threads = 4
# c.Gateway.max_body = 256_000_000

# Comparisons of cells that one viewer makes at once, each on all cores; and how many cells one may have, 0 for any
# number. The second also bounds what `diffexp_cellcount_max` allows among the viewer's own options.
# c.Gateway.diffexp_workers = 1
# c.Gateway.diffexp_max_cells = 0

# --- The viewers --------------------------------------------------------------------------------------------------

# The Python of the environment that has cxg-proxy[viewer]; by default the one that runs the gateway. cellxgene pins
# old versions of numpy and others: give it an environment of its own where that disturbs. Where users cannot write to
# it, run its `python -m cxg_proxy.viewer compile` after each installation, on a processor like those of the servers;
# else the compiler runs for each user. In an image, set NUMBA_CPU_NAME=generic before that, and in the image itself.
# c.Gateway.viewer_python = "/opt/cellxgene/bin/python"

# cellxgene's own options by their cellxgene names, and `layer` to show one (or "raw") in the place of X, for every
# dataset. A file <dataset>.cxg.yaml beside a dataset adds to these for that one.
# c.Gateway.viewer_options = {"disable_diffexp": False, "max_category_items": 1000, "layer": "log1p"}

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

# What can be computed or downloaded again, and the viewers' logs; by default the user's usual folders for these. A
# local disk is best for the cache where homes are on a network.
# c.Gateway.cache = "~/.cache/cxg-proxy"
# c.Gateway.logs = "~/.local/state/cxg-proxy/log"

# Gene expression is prepared once for each dataset, and kept below the cache in `stores`: for each user at most so many
# bytes, by default 50 GB, or half of the free disk where that is less. What was not used for longest gives way; it may
# all be removed at any time, open viewers read on. 0 keeps none, and viewers read the values into memory, as they do
# where there is no room.
# c.Gateway.cache_limit = 50_000_000_000

# What was prepared for everybody, as by `cxg-proxy prepare --shared-cache /srv/cxg-proxy /srv/datasets`, is looked for
# first. Run that as root or as the owner of the datasets, again when files or permissions have changed (cron will do).
# It reads no configuration: name `--layer` and `--viewer-python` where you set them here. Let it make the folder: all
# may enter it, but nobody else, no group either, may write to it or to one above. The datasets must be the same files
# under the same paths for it and for the users. The log of a viewer says why one that was found is not used. Nothing
# bounds this folder, and what was prepared of a dataset that is gone stays: remove `stores` in it and prepare again.
# c.Gateway.shared_cache = "/srv/cxg-proxy"

# Memory, in bytes, that preparing a dataset may take, beside some 250 MB for the program.
# c.Gateway.build_memory = 1_000_000_000
