"""arq: ArqRedis.enqueue_job, its call for one job."""

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from measuring import PAYLOAD, asked, measure_async


async def main() -> None:
    url, seconds = asked()
    pool = await create_pool(RedisSettings.from_dsn(url))
    await measure_async(lambda: pool.enqueue_job("work", **PAYLOAD), seconds)


uvloop.run(main())
