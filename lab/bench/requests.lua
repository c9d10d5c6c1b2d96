-- Requests for wrk, made before its clock starts, and counted where the benchmark can read it.
--
--   wrk … -s requests.lua URL -- COUNTERS FIRST COUNT
--
-- COUNT requests, numbered from FIRST, as a browser or a client of an API sends them. No two are alike: the number is
-- in the target, and in the value of one of seven fields, which each have it in turn. After the last one wrk ends with
-- an error, for a request that comes twice is one that a server may remember. COUNT 0 is wrk's own request again and
-- again.
--
-- A request made when it is to be sent costs wrk more than sending it: wrk would be slower than the servers that it
-- measures. So all of them are in memory, about 400 bytes each, and request() takes the next. They stay there, so the
-- collector of garbage is stopped.
--
-- COUNTERS is a file of two 64-bit numbers: of requests sent, and 1 once they are prepared. It is mapped and not
-- written to, which would be a system call a request.

local ffi = require("ffi")
ffi.cdef [[
  int open(const char *path, int flags);
  void *mmap(void *address, size_t length, int protection, int flags, int descriptor, long offset);
]]

local O_RDWR, READ_AND_WRITE, MAP_SHARED = 2, 3, 1
local NOBODY = "00000000"

-- What is before and behind the eight digits of each field's value.
local FIELDS = {
  { "Host: t", ".localhost:" .. wrk.port },
  { "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/", " Firefox/128.0" },
  { "Accept: text/html,application/xhtml+xml,application/json;v=", ";q=0.9,*/*;q=0.8" },
  { "Accept-Encoding: gzip, deflate, br, x-", "" },
  { "Cookie: theme=dark; session=4c1f9a07", "; consent=1" },
  { "Traceparent: 00-4bf92f3577b34da6a3ce929d", "-00f067aa0ba902b7-01" },
  { "X-Request-Id: 7d44", "-1f0e-4c8e-9c1d" },
}

local counters
local requests = {}
local repeated = nil
local count = 0
local sent = 0

local function mapped(path)
  local descriptor = ffi.C.open(path, O_RDWR)
  if descriptor < 0 then error("cannot open " .. path) end
  local memory = ffi.C.mmap(nil, 16, READ_AND_WRITE, MAP_SHARED, descriptor, 0)
  return ffi.cast("volatile uint64_t *", memory)
end

-- The texts around the number, for a request whose `varied` field has it.
local function around(varied)
  local before, behind, text = nil, nil, " HTTP/1.1\r\n"
  for place, field in ipairs(FIELDS) do
    if place == varied then
      before, text = text .. field[1], field[2] .. "\r\n"
    else
      text = text .. field[1] .. NOBODY .. field[2] .. "\r\n"
    end
  end
  behind = text .. "\r\n"
  return before, behind
end

local function prepare(first)
  local before, behind = {}, {}
  for varied = 1, #FIELDS do before[varied], behind[varied] = around(varied) end
  for place = 1, count do
    local number, varied = first + place - 1, (place - 1) % #FIELDS + 1
    requests[place] = "GET /?n=" .. number .. before[varied] .. string.format("%08x", number + 1) .. behind[varied]
  end
end

function init(args)
  counters = mapped(args[1])
  count = tonumber(args[3])
  if count == 0 then repeated = wrk.format() else prepare(tonumber(args[2])) end
  collectgarbage("stop")
  counters[1] = 1
end

function request()
  if repeated then
    sent = sent + 1
    counters[0] = sent
    return repeated
  end
  local text = requests[sent + 1]
  if not text then
    io.stderr:write(count .. " requests prepared were not enough\n")
    os.exit(1)
  end
  sent = sent + 1
  counters[0] = sent
  return text
end
