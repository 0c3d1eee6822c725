"""Rule, smoothed weighted IoU reward and the function that veRL calls (Eq. 8-10)."""
