"""What a run or the demo starts for a tier alone.

- `masking`: helpers of one's own, for the tier masked
"""
