"""What figures of several studies share: one style, panels and axes."""
