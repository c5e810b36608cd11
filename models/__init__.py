"""Algorithms without Beam."""

import os

# Hugging Face's libraries and vLLM report their use to their makers unless these are set before
# they are imported. Their processes inherit them.
for _name in ("HF_HUB_DISABLE_TELEMETRY", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
    os.environ.setdefault(_name, "1")
