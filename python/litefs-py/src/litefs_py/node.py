"""Runs a node from Python; see `Node`."""

from litefs_py.adapters.node import Node

__all__ = ["Node"]
