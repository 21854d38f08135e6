-- Raises an alert, or ends one; what is raised already and what has ended already changes nothing.
--
-- KEYS  1 alerts stream  2 the terminal's open alerts  3 counts
-- ARGV  1 "raise" or "end"  2 code  3 the alert (JSON)  4 now (UTC ms)  5 entries kept in the stream
--       6 field of the count
-- Returns 1 when something changed, else 0.

local held = redis.call('HGET', KEYS[2], ARGV[2])
if ARGV[1] == 'end' then
  if not held then return 0 end
  redis.call('HDEL', KEYS[2], ARGV[2])
else
  if held then
    local until_ms = cjson.decode(held).until_ms
    if until_ms == cjson.null or until_ms > tonumber(ARGV[4]) then
      if cjson.decode(held).text == cjson.decode(ARGV[3]).text then return 0 end
    end
  end
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  redis.call('HINCRBY', KEYS[3], ARGV[6], 1)
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*', 'alert', ARGV[3])
return 1
