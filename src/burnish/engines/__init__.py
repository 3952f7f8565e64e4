"""Where weights live. The only importers of torch.distributed, ray and vllm."""

from transformers.utils import logging as _logging

_logging.disable_progress_bar()  # loading is a part of a stage, which has its own display
