"""Dynamic sampling: groups are drawn, judged, kept, refilled, carried over and replayed."""
