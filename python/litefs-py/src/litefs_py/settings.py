"""The daemon's configuration as models, to read, check and write."""

from litefs_py.adapters.config.files import check, load, parse, render, save
from litefs_py.adapters.config.models import Config

__all__ = ["Config", "check", "load", "parse", "render", "save"]
