"""What was found, as files: masks, maps, JSON, COCO, LabelMe. Nothing here needs torch but :mod:`.callback`."""
