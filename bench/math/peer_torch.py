"""torch's side of the functions, on one thread: answers each name read with
the seconds of the best call in a turn. Results go to memory that exists
wherever torch lets them."""

import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
torch.set_grad_enabled(False)
VALUES, WIDE, EMBEDDING, TOKENS = 100_000, 1000, 384, 260
turn = float(sys.argv[1])

x = torch.randn(VALUES) * 2
y, half = torch.empty(VALUES), x.half()
xs, ys = x.view(-1, WIDE), y.view(-1, WIDE)
xe, ye = x[: TOKENS * EMBEDDING].view(TOKENS, EMBEDDING), y[: TOKENS * EMBEDDING].view(TOKENS, EMBEDDING)
gain, bias = torch.randn(EMBEDDING), torch.randn(EMBEDDING)
one, some = torch.empty(()), torch.empty(VALUES // WIDE)

CALLS = {
    "exp": lambda: torch.exp(x, out=y),
    "tanh": lambda: torch.tanh(x, out=y),
    "sigmoid": lambda: torch.sigmoid(x, out=y),
    "erf": lambda: torch.erf(x, out=y),
    "gelu": lambda: torch._C._nn.gelu(x, out=y),
    "softmax": lambda: torch.softmax(x, 0, out=y),
    "softmax_rows": lambda: torch.softmax(xs, 1, out=ys),
    "logsumexp": lambda: torch.logsumexp(x, 0, out=one),
    "logsumexp_rows": lambda: torch.logsumexp(xs, 1, out=some),
    # Its form with given memory is the slower one.
    "layernorm": lambda: F.layer_norm(xe, (EMBEDDING,), gain, bias, 1e-5),
    "normalize": lambda: F.normalize(xe, out=ye),
    "sum": lambda: torch.sum(x, 0, out=one),
    "max": lambda: torch.amax(x, 0, out=one),
    "to_float16": lambda: half.copy_(x),
    "from_float16": lambda: y.copy_(half),
}

print(torch.__version__, torch.backends.cpu.get_cpu_capability(), flush=True)
for line in sys.stdin:
    call, best, begin = CALLS[line.strip()], float("inf"), time.perf_counter()
    while (now := time.perf_counter()) < begin + turn:
        call()
        best = min(best, time.perf_counter() - now)
    print(best, flush=True)
