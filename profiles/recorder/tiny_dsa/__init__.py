"""A small language model with DSA indexers that anyone can train: texts, tasks, the model, its training (docs/trained-indexer.md)."""
