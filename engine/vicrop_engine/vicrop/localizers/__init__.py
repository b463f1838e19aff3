"""Ways to find the crop window, one file each, behind the protocol in `localizer.py`."""
