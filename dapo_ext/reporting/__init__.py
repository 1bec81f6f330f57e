"""What a run shows: metrics, pictures, progress, warnings, model card."""
