"""LiteLLM: the Router's pick of a deployment. The third argument is the strategy; all but the shuffle use Redis."""

import os
import sys

# else the import asks the network for prices
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import uvloop
from litellm import Router
from measuring import PAYLOAD, asked, measure_async

DEPLOYMENTS = 10


async def main() -> None:
    url, seconds = asked()
    strategy = sys.argv[3]
    router = Router(
        model_list=[
            {
                "model_name": "llm",
                "litellm_params": {"model": "openai/llm", "api_key": "-", "api_base": f"http://127.0.0.1:1/{i}"},
            }
            for i in range(DEPLOYMENTS)
        ],
        routing_strategy=strategy,
        redis_url=None if strategy == "simple-shuffle" else url,
    )
    messages = [{"role": "user", "content": PAYLOAD["text"]}]
    await measure_async(lambda: router.select("llm", {}, messages=messages), seconds)


uvloop.run(main())
