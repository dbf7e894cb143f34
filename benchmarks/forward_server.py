"""One way to run a net forward, behind a pipe; benchmarks/inference.py starts one for each side.

    python benchmarks/forward_server.py SIDE THREADS

reads one request a line, `load FOLDER`, `set FILE.npy`, `run COUNT`, `save FILE.npz` or `peak`, and
answers each with a line: `ok`, the seconds of COUNT passes, or the peak of resident memory in MiB.
What a side needs is imported when it runs, because engines live in an environment without torch.
"""

from __future__ import annotations

import ctypes
import importlib.util
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], Any]
Named = Callable[[Any], dict[str, np.ndarray]]
Take = Callable[[np.ndarray], tuple[Run, Named]]  # images -> a pass, its result's blobs by name
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def openvino(folder: Path, threads: int) -> Take:
    """Return a model that is compiled for the shape of the images."""
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "net.onnx")
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }

    def take(images: np.ndarray) -> tuple[Run, Named]:
        model.reshape(list(images.shape))
        request = core.compile_model(model, "CPU", options).create_infer_request()
        request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
        inputs = [images]  # the tensor has its memory, but does not keep it

        def run() -> Any:
            assert inputs
            return request.infer(share_outputs=True)

        return run, lambda output: {
            key.get_any_name(): np.array(value) for key, value in output.items()
        }

    return take


def onnxruntime(folder: Path, threads: int) -> Take:
    """Return a session with all optimisations, which is the default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(folder / "net.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    names = [value.name for value in session.get_outputs()]
    return lambda images: (
        lambda: session.run(None, {name: images}),
        lambda output: dict(zip(names, output, strict=True)),
    )


def opencv(folder: Path, threads: int) -> Take:
    """Return OpenCV's dnn, from Caffe's files."""
    import cv2

    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    names = net.getUnconnectedOutLayersNames()

    def take(images: np.ndarray) -> tuple[Run, Named]:
        def run() -> Any:
            net.setInput(images)
            return net.forward(names)

        return run, lambda output: dict(zip(names, output, strict=True))

    return take


def _torch_named(output: Any) -> dict[str, np.ndarray]:
    if not isinstance(output, dict):
        output = {"": output}
    return {name: value.numpy() for name, value in output.items()}


def ported(folder: Path, threads: int, compiled: bool = False) -> Take:
    """Return what `sphereface port` writes: torch.nn and torch.nn.functional alone."""
    import torch

    torch.set_num_threads(threads)
    spec = importlib.util.spec_from_file_location("ported", folder / "net.py")
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    module = source.Ported().eval()
    module.load_state_dict(torch.load(folder / "net.pt", weights_only=True))
    if compiled:
        import torch._inductor.config

        torch._inductor.config.freezing = True
        module = torch.compile(module, dynamic=False)

    def take(images: np.ndarray) -> tuple[Run, Named]:
        given = torch.from_numpy(images)
        # Not inference_mode: inductor freezes what runs under no_grad.
        return torch.no_grad()(lambda: module(given)), _torch_named

    return take


def ported_compiled(folder: Path, threads: int) -> Take:
    """Return the same through torch.compile, weights frozen."""
    return ported(folder, threads, compiled=True)


def aoti(folder: Path, threads: int) -> Take:
    """Return the package that `sphereface convert --to aoti` writes, loaded by torch alone."""
    import torch

    torch.set_num_threads(threads)

    def take(images: np.ndarray) -> tuple[Run, Named]:
        # A package takes any batch, and computes nonsense of pictures of another size.
        size = images.shape[1:]
        path = folder / f"aoti-{'x'.join(map(str, size))}.pt2"
        if not path.exists():
            from sphereface.caffe import load
            from sphereface.convert import save_net

            files = folder / "net.prototxt", folder / "net.caffemodel"
            save_net(load(*files, input_shapes={"data": (1, *size)}), path, "aoti")
        package = torch._inductor.aoti_load_package(str(path))
        given = torch.from_numpy(images)
        return torch.inference_mode()(lambda: package(given)), _torch_named

    return take


def net(folder: Path, threads: int) -> Take:
    """Return the module that `sphereface.caffe.load` returns, called."""
    import torch

    from sphereface.caffe import load

    torch.set_num_threads(threads)
    module = load(folder / "net.prototxt", folder / "net.caffemodel")

    def take(images: np.ndarray) -> tuple[Run, Named]:
        given = torch.from_numpy(images)
        return torch.inference_mode()(lambda: module(given)), _torch_named

    return take


def predictor(folder: Path, threads: int, fuse: bool = True) -> Take:
    """Return the net as `sphereface run` runs it; the predictor is made in the first pass."""
    import torch

    from sphereface.caffe import load
    from sphereface.inference import Predictor

    torch.set_num_threads(threads)
    module = load(folder / "net.prototxt", folder / "net.caffemodel")
    made: list[Predictor] = []

    def take(images: np.ndarray) -> tuple[Run, Named]:
        given = torch.from_numpy(images)

        def run() -> Any:
            if not made:
                made.append(Predictor(module, fuse=fuse))
            return made[0]({"data": given})

        return run, _torch_named

    return take


def unfused(folder: Path, threads: int) -> Take:
    """Return the same with --no-fuse."""
    return predictor(folder, threads, fuse=False)


def _version(name: str) -> Callable[[], str]:
    return lambda: importlib.import_module(name).__version__


SIDES: dict[str, tuple[Callable[[Path, int], Take], Callable[[], str]]] = {
    "predictor": (predictor, _version("sphereface")),
    "no-fuse": (unfused, _version("sphereface")),
    "net": (net, _version("sphereface")),
    "torch": (ported, _version("torch")),
    "aoti": (aoti, _version("torch")),
    "torch-compiled": (ported_compiled, _version("torch")),
    "openvino": (openvino, _version("openvino")),
    "onnxruntime": (onnxruntime, _version("onnxruntime")),
    "opencv": (opencv, _version("cv2")),
}


def main() -> None:
    """Serve until the pipe closes."""
    if sys.platform == "linux":  # else a stopped process would outlive a killed parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    name, threads = sys.argv[1:]
    make, version = SIDES[name]
    print(version(), flush=True)
    take = run = named = output = None
    for line in sys.stdin:
        request, _, argument = line.strip().partition(" ")
        answer = "ok"
        if request == "load":
            take = make(Path(argument), int(threads))
        elif request == "set":
            run, named = take(np.load(argument))
        elif request == "run":
            begin = time.perf_counter()
            for _ in range(int(argument)):
                output = run()
            answer = repr(time.perf_counter() - begin)
        elif request == "save":
            np.savez(argument, **named(output))
        elif request == "peak":
            answer = repr(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(answer, flush=True)


if __name__ == "__main__":
    main()
