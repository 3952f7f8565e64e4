"""Tasks of other packages, each an extra: ``task=reasoning-gym/NAME``, ``gymnasium/ID``, ``verifiers/NAME``."""
