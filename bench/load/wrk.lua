-- What wrk sends, as the environment says; see wrk.py. At its end it prints one line of JSON.

local function setting(name) return (assert(os.getenv("BENCH_" .. name), name)) end

local HOUR_MS = 3600000
local current = tonumber(setting("HOUR"))
local post_share = tonumber(setting("POST_SHARE"))
local users = tonumber(setting("USERS"))
local past_share = tonumber(setting("PAST_SHARE"))
local past_hours = tonumber(setting("PAST_HOURS"))
local past_step_h = tonumber(setting("PAST_STEP_H"))
local seed = tonumber(setting("SEED"))

local threads = {}
local random, format = math.random, string.format
local headers = " HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n"

-- Of wrk's own state: each thread gets a number.
function setup(thread)
  threads[#threads + 1] = thread
  thread:set("number", #threads)
end

-- Of each thread.
function init()
  math.randomseed(seed * 1000 + number)
  for _ = 1, 10 do random() end  -- The first ones of neighbouring seeds are alike.
  sent, sent_posts = 0, 0
end

local function user()
  if users > 0 then return format("user-%d", random(users)) end
  return format("%08x-%x-%x-%x", random(0, 0x7fffffff), seed, number, sent)
end

function request()
  local hour = current
  if past_share > 0 and random() < past_share then hour = current - past_step_h * random(past_hours) end
  local timestamp = format("%.0f", hour * HOUR_MS + random(0, HOUR_MS - 1))
  sent = sent + 1
  if post_share < 1 and random() >= post_share then
    return "GET /analytics?timestamp=" .. timestamp .. headers .. "\r\n"
  end
  sent_posts = sent_posts + 1
  local kind = random() < 0.5 and "click" or "impression"
  return "POST /analytics?timestamp=" .. timestamp .. "&user=" .. user() .. "&" .. kind
    .. headers .. "Content-Length: 0\r\n\r\n"
end

function done(summary, latency)
  local all, posts = 0, 0
  for _, thread in ipairs(threads) do
    all, posts = all + thread:get("sent"), posts + thread:get("sent_posts")
  end
  local e = summary.errors
  io.write("\n" .. format(
    '{"answered": %d, "seconds": %.6f, "sent": %d, "sent_posts": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d,'
      .. ' "refused": %d, "broken": %d, "late": %d}',
    summary.requests, summary.duration / 1e6, all, posts,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.status, e.connect + e.read + e.write, e.timeout) .. "\n")
end
