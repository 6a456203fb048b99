"""Records the indexer calls of serving stacks as traces. MISA_TRACE_DIR turns it on; see docs/recording.md.

vLLM and SGLang load it as a plugin. Elsewhere `python -m misa_trace.record script.py` does, or a first line `import
misa_trace.record`. Without MISA_TRACE_DIR nothing happens.
"""

from __future__ import annotations

from .hooks import install
from .settings import Settings, SettingsError

__all__ = ["Settings", "SettingsError", "install"]

install()
