"""Sequence-level knowledge distillation (Kim & Rush 2016): the library, true without a pipeline."""
