"""Many questions on Ray: `python -m vicrop_engine.ray_data ENGINE questions.jsonl -o answers.jsonl`."""
