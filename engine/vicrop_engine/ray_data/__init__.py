"""Many questions answered on a Ray cluster: `python -m vicrop_engine.ray_data ENGINE questions.jsonl -o answers.jsonl`."""
