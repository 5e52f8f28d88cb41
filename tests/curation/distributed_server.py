"""What the server of forked processes does once for all of them: import, and load the compiled kernels."""

import torch
from distributed_fit import SMALL, blobs

from strata.curation import HierarchicalKMeans

torch.set_num_threads(1)  # no threads before the fork
HierarchicalKMeans(**(SMALL | {"n_clusters": (20, 5), "init": "k-means++"})).fit(blobs(200))
