-- Script of wrk: POST one body, given behind "--", again and again; the last line on stdout is JSON.
-- Answers are counted by status, because wrk itself takes every status below 400 for good.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  statuses = {}
  wrk.method, wrk.body = 'POST', args[1]
  wrk.headers['Content-Type'] = 'application/json'
end

function response(status)
  statuses[status] = (statuses[status] or 0) + 1
end

function done(summary, latency)
  local total, texts, errors = {}, {}, summary.errors
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get('statuses')) do
      total[status] = (total[status] or 0) + count
    end
  end
  for status, count in pairs(total) do
    table.insert(texts, string.format('"%d":%d', status, count))
  end
  print(string.format(
    '{"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"broken":%d,"statuses":{%s}}',
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, table.concat(texts, ',')
  ))
end
