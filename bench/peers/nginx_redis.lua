-- The peer: /analytics over Redis. Commands of one request go out together, and its answers come in one round trip;
-- connections to Redis are kept. Debian has no lua-resty-redis, so the few lines that are needed stand here.

local HOUR_MS = 3600000
local KEEP_MS = 60000
local POOL = 1024

local function command(...)
  local parts = { "*" .. select("#", ...) .. "\r\n" }
  for i = 1, select("#", ...) do
    local word = tostring((select(i, ...)))
    parts[#parts + 1] = "$" .. #word .. "\r\n" .. word .. "\r\n"
  end
  return table.concat(parts)
end

-- Returns the next answer: a number or a string, nil for none, or an array of them.
local function answer(sock)
  local line, err = sock:receive()
  if not line then error(err) end
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == ":" then return tonumber(rest) end
  if kind == "+" then return rest end
  if kind == "$" then
    if rest == "-1" then return nil end
    return assert(sock:receive())  -- What is stored here has no line ends: it is numbers.
  end
  if kind == "*" then
    local all = {}
    for i = 1, tonumber(rest) do all[i] = answer(sock) end
    return all
  end
  error(line)
end

local function ask(first, second)
  local sock = ngx.socket.tcp()
  assert(sock:connect(ngx.var.redis, { pool_size = POOL }))
  assert(sock:send(first .. second))
  local one, two = answer(sock), answer(sock)
  sock:setkeepalive(KEEP_MS, POOL)
  return one, two
end

local args = ngx.req.get_uri_args(8)
local timestamp = tonumber(args.timestamp)
if not timestamp then return ngx.exit(400) end
local hour = string.format("%.0f", math.floor(timestamp / HOUR_MS))

if ngx.req.get_method() == "POST" then
  local kind = args.click and "clicks" or args.impression and "impressions"
  if type(args.user) ~= "string" or not kind then return ngx.exit(400) end
  ask(command("HINCRBY", "counts:" .. hour, kind, 1), command("SADD", "users:" .. hour, args.user))
  return ngx.exit(204)
end

local counts, users = ask(command("HMGET", "counts:" .. hour, "clicks", "impressions"), command("SCARD", "users:" .. hour))
local body = "unique_users," .. users .. "\nclicks," .. (counts[1] or 0) .. "\nimpressions," .. (counts[2] or 0) .. "\n"
ngx.header["Content-Type"] = "text/plain"
ngx.header["Content-Length"] = #body
ngx.print(body)
