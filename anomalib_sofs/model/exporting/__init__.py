"""Exports: graphs with a loop over windows, checked against PyTorch before they appear under their name."""
