"""Few-shot anomaly detection: what is normal, from a few good parts."""
