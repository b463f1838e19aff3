"""What Qwen2-VL, Qwen2.5-VL and Qwen3-VL share: tower parts, names, the image processor, prompts."""
