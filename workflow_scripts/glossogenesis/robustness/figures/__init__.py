"""Figures of the robustness study, and the numbers behind them."""
