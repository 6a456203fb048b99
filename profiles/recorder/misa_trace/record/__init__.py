"""The recorder: hooks on serving stacks that write traces (docs/recording.md)."""
