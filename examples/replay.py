"""Runs a model at the input of a printed counterexample, with onnxruntime and nothing of surebound.

verify MODEL.onnx PROPERTY.vnnlib > answer.txt
python examples/replay.py MODEL.onnx answer.txt
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

PAIR = re.compile(r"\(\s*([XY])_(\d+)\s+([-+.\deE]+)\s*\)")


def main() -> None:
    model, answer = sys.argv[1:]
    pairs = PAIR.findall(Path(answer).read_text())
    claimed = [float(value) for letter, _, value in pairs if letter == "Y"]
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    x = np.array([value for letter, _, value in pairs if letter == "X"], dtype=np.float32)
    (y,) = session.run(None, {port.name: x.reshape(port.shape)})
    outputs = np.asarray(y, dtype=np.float32).reshape(-1)
    for i, (now, then) in enumerate(zip(outputs, claimed, strict=True)):
        print(f"Y_{i} = {now:.9g} (printed: {then:.9g})")
    if not np.array_equal(outputs, np.asarray(claimed, dtype=np.float32)):
        raise SystemExit("the replay differs from what was printed")
    print("the same outputs, bit for bit")


if __name__ == "__main__":
    main()
