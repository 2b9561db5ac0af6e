"""The Hugging Face Hub: pinned commits, offline work, and errors of one line."""
