"""A whole cluster on this machine; see `Cluster`."""

from litefs_py.adapters.cluster import Cluster, ClusterNode, wait_for

__all__ = ["Cluster", "ClusterNode", "wait_for"]
