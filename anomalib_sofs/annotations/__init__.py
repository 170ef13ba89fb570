"""Every way in which people hand over marked images, read into one list of image, mask and class."""
