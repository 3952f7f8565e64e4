"""What the papers are about: pure functions over tensors. No input or output, no global state."""
