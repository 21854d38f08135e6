-- Records a signal, its legs and their outbox entries in one step, or answers what is known of the id.
--
-- KEYS  1 signal  2 signals index  3 unsettled  4 reports stream  5 access version  6 refused (refuse.lua);
--       then for each leg: order, outbox, leg counter
-- ARGV  1 signal_id  2 body (JSON)  3 digest  4 user_id  5 username  6 source  7 ttl_ms  8 age_ms
--       9 action  10 symbol  11 side ("" = none)  12 lots ("" = none)  13 received_ms
--       14 the access version under which the targets were resolved ("" = do not compare)
--       15 accepted_ms  16 deadline_ms: of a signal that is accepted again after the store lost it ("" = now)
--       then for each leg: order_id, terminal_id, epoch, leg_seq ("" = the next; else the one that it had)
-- Returns {"FOREIGN"} | {"CONFLICT"} | {"KNOWN"} | {"TOO_OLD"} | {"STALE"} | {"CREATED", accepted_ms, deadline_ms, leg JSON, report JSON, ...}

local known = redis.call('HMGET', KEYS[1], 'digest', 'user_id', 'partial', 'orders')
if known[1] then
  if known[2] ~= ARGV[4] then return { 'FOREIGN' } end
  if known[1] ~= ARGV[3] then return { 'CONFLICT' } end
  -- a partial record was made by an executor for the one leg that it had, after the store was rolled back
  if known[3] ~= '1' then return { 'KNOWN' } end
elseif (ARGV[20] or '') == '' then
  -- unless its legs have had numbers: then it was accepted, whatever was said while it was lost
  local refused = redis.call('GET', KEYS[6])
  if refused and (refused == '1' or ARGV[14] == '') then return { 'TOO_OLD' } end
  if refused == ARGV[14] then return { 'STALE' } end  -- a later send was refused by what its user may since
end

if ARGV[14] ~= '' and (redis.call('GET', KEYS[5]) or '0') ~= ARGV[14] then return { 'STALE' } end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local accepted = ARGV[15] ~= '' and ARGV[15] or string.format('%.0f', now)
local deadline = ARGV[16] ~= '' and ARGV[16] or string.format('%.0f', now + tonumber(ARGV[7]) - tonumber(ARGV[8]))
local accepted_us = ARGV[15] ~= '' and tonumber(ARGV[15]) * 1000 or time[1] * 1000000 + time[2]
local trace = string.format('{"received":%.0f,"accepted":%s,"accepted_us":%.0f,"accept_us":%.0f}',
  math.floor(tonumber(ARGV[13])), accepted, accepted_us, math.max(0, accepted_us - tonumber(ARGV[13]) * 1000))
local answer = { 'CREATED', accepted, deadline }
local order_ids, named = {}, {}

for i = 0, (#KEYS - 6) / 3 - 1 do
  local order_key, outbox, counter = KEYS[7 + i * 3], KEYS[8 + i * 3], KEYS[9 + i * 3]
  local order_id, terminal_id, epoch, seq = ARGV[17 + i * 4], ARGV[18 + i * 4], ARGV[19 + i * 4], ARGV[20 + i * 4]
  local held = redis.call('HMGET', order_key, 'leg', 'report')
  local leg, report = held[1], held[2]
  if not leg then
    if seq == '' then
      seq = string.format('%.0f', redis.call('INCR', counter))
    elseif tonumber(seq) > tonumber(redis.call('GET', counter) or '0') then
      redis.call('SET', counter, seq)
    end
    leg = '{"signal":' .. ARGV[2] .. ',"digest":"' .. ARGV[3] .. '","terminal_id":"' .. terminal_id
      .. '","epoch":' .. epoch .. ',"leg_seq":' .. seq .. ',"accepted_ms":' .. accepted
      .. ',"deadline_ms":' .. deadline .. ',"user_id":' .. ARGV[4] .. ',"trace":' .. trace .. '}'
    local side = ARGV[11] == '' and 'null' or '"' .. ARGV[11] .. '"'
    local lots = ARGV[12] == '' and '0' or ARGV[12]
    report = '{"order_id":"' .. order_id .. '","signal_id":"' .. ARGV[1] .. '","terminal_id":"' .. terminal_id
      .. '","report_seq":0,"state":"QUEUED","action":"' .. ARGV[9] .. '","symbol":"' .. ARGV[10] .. '","side":' .. side
      .. ',"lots":"' .. lots .. '","time_ms":' .. accepted .. ',"user_id":' .. ARGV[4] .. ',"trace":' .. trace .. '}'
    redis.call('HSET', order_key, 'leg', leg, 'state', 'QUEUED', 'report_seq', '0', 'report', report, 'overdue', '0')
    redis.call('ZADD', outbox, seq, order_id)
    redis.call('ZADD', KEYS[3], deadline, order_id)
    redis.call('XADD', KEYS[4], '*', 'report', report)
  end  -- else its executor has published it: what the journal said is never set back to QUEUED
  order_ids[#order_ids + 1] = '"' .. order_id .. '"'
  named[order_id] = true
  answer[#answer + 1] = leg
  answer[#answer + 1] = report
end

if known[4] then  -- partial: an order of a terminal that is no target any more stays the signal's
  for _, order_id in ipairs(cjson.decode(known[4])) do
    if not named[order_id] then order_ids[#order_ids + 1] = '"' .. order_id .. '"' end
  end
  redis.call('HDEL', KEYS[1], 'partial')
end
redis.call('HSET', KEYS[1], 'body', ARGV[2], 'digest', ARGV[3], 'user_id', ARGV[4], 'username', ARGV[5],
  'source', ARGV[6], 'accepted_ms', accepted, 'deadline_ms', deadline,
  'orders', '[' .. table.concat(order_ids, ',') .. ']')
redis.call('ZADD', KEYS[2], accepted, ARGV[1])
return answer
