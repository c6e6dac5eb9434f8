"""A trial: running somebody's answer so that nothing it does can hurt the lesson.

Its inputs are compared afterwards, what it prints is held back, its exceptions become sentences, and
a time limit ends it. The answer runs in a thread of its own: such a limit holds in a notebook, in a
shell, on Windows, and against code that catches every exception. Only a single operation that never
lets Python go on, such as a huge power of whole numbers, can make it wait.
"""

import contextlib
import ctypes
import dis
import inspect
import io
import linecache
import math
import os
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LIMIT_S = 10.0
SHOWN = 6  # values of a tensor in a message


class Broken(Exception):
    """A property does not hold; the message tells the learner what broke."""


class Trouble(Exception):
    """An answer cannot be judged: it raised, returned a wrong type, changed its inputs, or took too long."""


class Stop(BaseException):
    """Thrown into a thread whose time is over."""


@dataclass
class Answer:
    """An answer on trial. It is called like the function itself, and each call is watched.

    ``parameters`` names its positional arguments for the messages, ``returns(result, arguments)`` says what is
    wrong with the type of a result, or None. Functions among the arguments are handed over without their names.
    """

    function: Callable
    parameters: Sequence[str] = ()
    returns: Callable[[object, tuple], str | None] | None = None

    def __call__(self, *arguments, **options):
        """Call the answer. Raises: Trouble, with a sentence for the learner."""
        before = [argument.detach().clone() if isinstance(argument, Tensor) else None for argument in arguments]
        given = _given(self.parameters, arguments, options)
        handed = [anonymous(argument) if _is_code(argument) else argument for argument in arguments]
        try:
            with torch.enable_grad():
                result = self.function(*handed, **options)
        except (Trouble, Broken, Stop):
            raise
        except BaseException as error:  # the reader's own Ctrl-C arrives in another thread
            raise Trouble(f"Your function raised {_error(error, self.function)} It was called with {given}.") from None
        for name, argument, copy in zip(_names(self.parameters, arguments), arguments, before, strict=True):
            if copy is not None and not _same(argument, copy):
                raise Trouble(
                    f"Your function changes its input `{name}`: it held {show(copy)} before the call and "
                    f"{show(argument)} after it. Whoever called it still needs that tensor. Work on a new one: "
                    "`clamp` and not `clamp_`, `x = x - 1` and not `x -= 1`."
                )
        problem = self.returns(result, arguments) if self.returns else None
        if problem:
            raise Trouble(f"{problem} It was called with {given}.")
        return result


def anonymous(code: Callable) -> Callable:
    """The same code without its name: whoever wants to know what it does has to call it."""

    def unnamed(*arguments, **options):
        return code(*arguments, **options)

    return unnamed


def _is_code(argument) -> bool:
    """Whether an argument is a function, and no class or module, of which more is asked than to be called."""
    return callable(argument) and not isinstance(argument, type | torch.nn.Module)


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _names(parameters: Sequence[str], arguments: tuple) -> list[str]:
    return [*parameters[: len(arguments)], *(f"argument {i + 1}" for i in range(len(parameters), len(arguments)))]


def _given(parameters: Sequence[str], arguments: tuple, options: dict) -> str:
    pairs = [*zip(_names(parameters, arguments), arguments, strict=True), *options.items()]
    return ", ".join(f"`{name} = {show(value)}`" for name, value in pairs) or "no arguments"


def in_words(error: BaseException) -> str:
    """The first line of what an error says, however oddly it says it; empty where it says nothing."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:
        return "an error that cannot even be printed"
    return lines[0][:300].strip().rstrip(".") if lines else ""


def _error(error: BaseException, function: Callable) -> str:
    """The error in one or two sentences, with the line of the learner's own code that it came from."""
    message = in_words(error)
    said = f"{type(error).__name__}: {message}." if message else f"{type(error).__name__}."
    said += "".join(f" ({advice})" for symptom, advice in _ADVICE.items() if symptom in message)
    own = _code(function)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if own is not None and f.filename == own.co_filename]
    if frames:
        line = (frames[-1].line or linecache.getline(frames[-1].filename, frames[-1].lineno)).strip()
        said += f" The line: `{line}`." if line else ""
    return said


_ADVICE = {
    "Boolean value of Tensor": "Python's `if`, `max` and `min` look at one number, `torch.where` and `torch.minimum` "
    "at all of them.",
    "bitwise_xor": "In Python a power is `**`, and `^` is something else.",
}


def _code(function) -> types.CodeType | None:
    """The code of a plain function; None for everything else that can be called."""
    code = getattr(function, "__code__", None) if isinstance(function, types.FunctionType) else None
    return code if isinstance(code, types.CodeType) else None


def show(value) -> str:
    """A value in a message: short, with as many digits as one needs."""
    if isinstance(value, Tensor):
        flat = value.detach().reshape(-1)
        if flat.numel() == 1 and value.dim() == 0:
            return show(flat.item())
        shown = ", ".join(show(x) for x in flat[:SHOWN].tolist())
        more = ", ..." if flat.numel() > SHOWN else ""
        shape = f" of shape {list(value.shape)}" if value.dim() != 1 else ""
        return f"[{shown}{more}]{shape}"
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.6g}"
    if isinstance(value, int | str):
        return repr(value)
    if callable(value):
        return getattr(value, "__name__", "a function")
    return article(type(value).__name__)


# ---------------------------------------------------------------- what an answer may return


def tensor_like(index: int = 0) -> Callable[[object, tuple], str | None]:
    """The result has to be a tensor of the shape and the dtype of argument number ``index``."""

    def problem(result, arguments: tuple) -> str | None:
        return not_a_tensor(result) or _other_shape(result, arguments[index]) or _other_dtype(result, arguments[index])

    return problem


def nothing_returned(result, asked_for: str) -> str | None:
    """What to say about a result that is none yet, of an answer that is called a function or a property."""
    if result is None:
        return f"Your {asked_for} returned None: is there a `return` at its end?"
    if inspect.iscoroutine(result):
        result.close()
    elif not inspect.isgenerator(result):
        return None
    return f"Your {asked_for} returned a {type(result).__name__}: it contains `yield` or is `async`. Use `return`."


def not_a_tensor(result) -> str | None:
    """What to say about a result that should have been a tensor of floats."""
    if problem := nothing_returned(result, "function"):
        return problem
    if not isinstance(result, Tensor):
        return (
            f"Your function returned {article(type(result).__name__)} where a tensor is expected. "
            "Stay with torch operations: `.item()`, `float(...)`, `.numpy()` and Python's `max` and `min` leave it."
        )
    if result.layout is not torch.strided or result.device.type != "cpu" or result.is_nested or result.is_quantized:
        return "Your function returned a special kind of tensor. Return an ordinary, dense one on the CPU."
    if not result.is_floating_point():
        return f"Your function returned a tensor of {result.dtype} where real numbers are expected."
    return None


def _other_shape(result: Tensor, like: Tensor) -> str | None:
    if result.shape == like.shape:
        return None
    if result.dim() < like.dim():
        why = "One value per sample is asked for: leave `mean` and `sum` to the caller."
    else:
        why = "Check which operation added an axis."
    return f"Your function returned shape {list(result.shape)} for inputs of shape {list(like.shape)}. {why}"


def _other_dtype(result: Tensor, like: Tensor) -> str | None:
    if result.dtype == like.dtype:
        return None
    return (
        f"Your function turned {like.dtype} into {result.dtype}. Leave out `.float()` and `.double()`, and let "
        "constants follow their input: `torch.ones_like(x)`, or plain Python numbers."
    )


# ---------------------------------------------------------------- derivatives


def derivative(output: Tensor, of: Tensor, name: str) -> Tensor:
    """The derivative of the sum of ``output`` with respect to ``of``.

    Raises: Broken when no gradient flows from the one to the other.
    """
    if not output.requires_grad:
        raise Broken(
            f"no gradient flows back to `{name}`: the result is cut off from it. Look for `.detach()`, "
            "`torch.no_grad()`, `.data`, `.item()`, or a new tensor built from numbers."
        )
    try:
        (slope,) = torch.autograd.grad(output.sum(), of, allow_unused=True)
    except Stop:
        raise
    except BaseException as error:
        said = in_words(error)
        why = (
            "a tensor was changed in place after it had been used. Make new ones."
            if "modified by an inplace operation" in said
            else f"{type(error).__name__}{f': {said}' if said else ''}."
        )
        raise Broken(f"the gradient in `{name}` could not be computed: {why}") from None
    if slope is None:
        raise Broken(f"the result does not depend on `{name}` at all, as far as the gradient can see.")
    return slope


# ---------------------------------------------------------------- time


class Heard(io.TextIOBase):
    """What a thread prints, from its beginning and no more than a page of it. What other threads print passes by."""

    LIMIT = 2000

    def __init__(self, passes_by=None):
        self.text, self.thread, self.passes_by = "", None, passes_by

    def write(self, text: str) -> int:
        if threading.current_thread() is not self.thread:
            return self.passes_by.write(text) if self.passes_by is not None else len(text)
        self.text += text[: max(0, self.LIMIT - len(self.text))]
        return len(text)

    def flush(self) -> None:
        if threading.current_thread() is not self.thread and self.passes_by is not None:
            self.passes_by.flush()

    def close(self) -> None:
        """An answer that closes what it prints to closes nothing."""


def within(seconds: float, run: Callable, heard: Heard | None = None, *, usual: str = "milliseconds"):
    """What ``run()`` returns, or Trouble once ``seconds`` are over. Its exceptions come through.

    It runs in a thread of its own, which is asked to stop when its time is over, or when the reader interrupts. Code
    that does not listen is left behind: it ends with the kernel. What is printed meanwhile goes to ``heard``, and what
    is set for the whole process is put back by the waiting thread: a worker that was left behind undoes nothing later.
    Raises: Trouble on overtime, which says what takes ``usual`` otherwise.
    """
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"expected a time limit in seconds, positive and finite; got {seconds}. Ten is a good choice.")
    outcome: dict[str, object] = {}
    heard = heard if heard is not None else Heard()
    heard.passes_by = sys.stdout

    def work() -> None:
        try:
            outcome["result"] = run()
        except BaseException as error:
            outcome["error"] = error

    worker = threading.Thread(target=work, daemon=True, name="pocourse-answer")
    heard.thread = worker
    with _put_back(), contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stdin, sys.stdin = sys.stdin, io.StringIO()  # whoever asks the keyboard is told at once that nobody answers
        worker.start()
        try:
            worker.join(seconds)
        finally:
            if worker.is_alive():
                _stop(worker)
            sys.stdin = stdin
    error = outcome.get("error")
    if isinstance(error, Stop) or not outcome:
        raise Trouble(
            f"Your function did not finish within {seconds:g} seconds. Look for a loop that never ends, or for very "
            f"much work; what is asked for here usually takes {usual}."
        )
    if error is not None:
        raise error
    return outcome["result"]


@contextlib.contextmanager
def _put_back():
    """Afterwards the random numbers, torch's names and settings and the working folder are as they were."""
    state, dtype, threads = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads()
    names, folder, depth = dict(vars(torch)), os.getcwd(), sys.getrecursionlimit()
    deterministic, anomaly = torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled()
    try:
        yield
    finally:
        for name, value in names.items():
            if vars(torch).get(name) is not value:
                setattr(torch, name, value)
        torch.set_rng_state(state)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.autograd.set_detect_anomaly(anomaly)
        os.chdir(folder)
        sys.setrecursionlimit(depth)


def _stop(worker: threading.Thread, tries: int = 20) -> None:
    for _ in range(tries):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(Stop))
        worker.join(0.05)
        if not worker.is_alive():
            return


# ---------------------------------------------------------------- before a trial


def untouched(function) -> bool:
    """Whether a function is still the stub: its body is ``...``, ``pass`` or a docstring, and nothing else."""
    code = _code(function)
    if code is None or code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return False
    return _does(code) == _does((lambda: None).__code__) or _does(code) == _does(_only_a_docstring.__code__)


def _only_a_docstring():
    """Nothing."""


def _does(code: types.CodeType) -> list[tuple[str, object]]:
    idle = {"RESUME", "NOP", "CACHE"}
    return [(step.opname, step.argval) for step in dis.get_instructions(code) if step.opname not in idle]


def unsuitable(answer, parameters: Sequence[str], options: Sequence[str]) -> str | None:
    """What is wrong with handing in ``answer`` at all, before anything is called; None when it can be tried."""
    if isinstance(answer, type) or not callable(answer):
        kind = "a class" if isinstance(answer, type) else article(type(answer).__name__)
        return f"expected your function itself; got {kind}. Pass the name alone, without calling it: `grade(id, f)`."
    try:
        signature = inspect.signature(answer)
    except BaseException:  # built in, or odd: the trial will show
        return None
    try:
        signature.bind(*[None] * len(parameters), **dict.fromkeys(options))
    except TypeError as error:
        wanted = ", ".join([*parameters, *(f"{name}=..." for name in options)])
        return (
            f"expected a function that can be called as `f({wanted})`; yours has the parameters `{signature}`: "
            f"{error}. Take the first line of the stub."
        )
    return None


def article(name: str) -> str:
    """A word with its article."""
    return f"{'an' if name[:1].lower() in 'aeiou' or name.startswith('nd') else 'a'} {name}"
