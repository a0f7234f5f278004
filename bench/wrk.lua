-- Requests for wrk that differ from one another, and exact figures at the end.
--
-- Arguments after "--": the mode, then for uploads the number of body bytes.
--   unique          GET, a new path each time, ten header fields as a browser sends them
--   varying         the same, and another X-Request-ID each time
--   mixed           in turn a page, a script and a picture, whose fields differ in number and value
--   close           as unique, with "Connection: close": every request is a new connection
--   upload SIZE     POST of SIZE bytes with Content-Length
--   chunked SIZE    the same in the chunked transfer coding, 64 KiB a chunk
--
-- Upload requests are built once: wrk asks for a static request only at the start, so that
-- the load generator copies no megabytes of its own while it measures.

local FIELDS = {
  "Host: shop.example.com",
  "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
  "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
  "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
  "Accept-Encoding: gzip, deflate, br",
  "Referer: https://shop.example.com/catalogue/shoes?page=2",
  "Cookie: session=eyJ1c2VyX2lkIjo0MjE3fQ.Zr0wXg.8lq1Zk; theme=dark; consent=1",
  "Cache-Control: max-age=0",
  "X-Forwarded-For: 203.0.113.7",
  "X-Request-ID: 6f1c2f9e-54c3-4d55-9a5e-3d2f1b7a9c10",
}
local CHUNK = 64 * 1024

local function chunked_body(size)
  local chunk = string.format("%x\r\n%s\r\n", CHUNK, string.rep("x", CHUNK))
  return string.rep(chunk, size / CHUNK) .. "0\r\n\r\n"
end

local function static(lines, body)
  local text = table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
  wrk.format = function() return text end
end

local function dynamic(extra)
  local tail = "&sort=price HTTP/1.1\r\n" .. table.concat(FIELDS, "\r\n") .. extra .. "\r\n\r\n"
  local number = 0
  -- A global of this name is what tells wrk to ask again for each request.
  request = function()
    number = number + 1
    return "GET /catalogue/item-" .. number .. "?page=" .. number % 50 .. tail
  end
end

local function varying()
  local head = "&sort=price HTTP/1.1\r\n" .. table.concat(FIELDS, "\r\n", 1, #FIELDS - 1)
  local number = 0
  request = function()
    number = number + 1
    return "GET /catalogue/item-" .. number .. "?page=" .. number % 50 .. head
      .. string.format("\r\nX-Request-ID: 6f1c2f9e-54c3-4d55-9a5e-%012x\r\n\r\n", number)
  end
end

local function mixed()
  local tails = {}
  for kind, accept in ipairs({FIELDS[3], "Accept: */*", "Accept: image/avif,image/webp,*/*"}) do
    local fields = {FIELDS[1], FIELDS[2], accept, FIELDS[4], FIELDS[5], FIELDS[7]}
    if kind > 1 then
      table.insert(fields, "Sec-Fetch-Dest: " .. (kind == 2 and "script" or "image"))
      table.insert(fields, "Sec-Fetch-Mode: no-cors")
      table.insert(fields, FIELDS[6])
    end
    if kind == 3 then table.insert(fields, 4, "If-None-Match: \"5f3\"") end
    tails[kind] = " HTTP/1.1\r\n" .. table.concat(fields, "\r\n") .. "\r\n\r\n"
  end
  local number = 0
  request = function()
    number = number + 1
    return "GET /catalogue/item-" .. number .. "?page=" .. number % 50 .. tails[number % 3 + 1]
  end
end

local function upload(framing, body)
  static({"POST /files HTTP/1.1", FIELDS[1], FIELDS[2],
          "Content-Type: application/octet-stream", framing}, body)
end

local MODES = {
  unique = function() dynamic("") end,
  varying = varying,
  mixed = mixed,
  close = function() dynamic("\r\nConnection: close") end,
  upload = function(size) upload("Content-Length: " .. size, string.rep("x", size)) end,
  chunked = function(size) upload("Transfer-Encoding: chunked", chunked_body(size)) end,
}

function init(args)
  MODES[args[1]](tonumber(args[2]))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "bytes": %d, "p50": %d, "p99": %d, "max": %d, '
      .. '"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
