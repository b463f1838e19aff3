"""Models beside the engine that find crops: CLIP, a YOLO-family detector and SAM."""
