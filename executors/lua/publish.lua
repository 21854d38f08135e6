-- Merges a terminal's reports forward into RTSS and RTRS; what is known already changes nothing.
--
-- KEYS  1 reports stream  2 instance  3 unsettled  4 outbox  5 signals index  6 leg counter; then order and signal of
--       each report
-- ARGV  1 journal_id  2 epoch  3 the position that was published before ("" = do not compare); then for each report:
--       order_id, report_seq, state, settled (0/1), position, deadline_ms, report JSON, leg JSON
-- Returns the number of reports that were new; or -1 - position, and nothing is written, when this store has only come
-- to that position: it was rolled back, and what it lost must be published first; or {epoch}, and nothing is written, when
-- the terminal was moved since: an executor of an earlier epoch has no say any more.

local held = redis.call('HMGET', KEYS[2], 'journal_id', 'position', 'epoch')
if tonumber(held[3] or '0') > tonumber(ARGV[2]) then return { held[3] } end
local reached = held[1] == ARGV[1] and tonumber(held[2]) or 0
if ARGV[3] ~= '' and reached < tonumber(ARGV[3]) then return -1 - reached end

local ended = { FILLED = 1, DONE = 1, REJECTED = 1, DENIED = 1, EXPIRED = 1, CANCELLED = 1, MANUAL = 1 }

-- The report that accept made and the store lost: an order's reports count from 0 without gaps.
local function restore_first_report(order_id, fields)
  local signal = fields.signal
  local symbol = type(signal.symbol) == 'string' and signal.symbol or ''  -- null is no string
  local opens = signal.action == 'open'
  local side = opens and '"' .. signal.side .. '"' or 'null'
  local lots = opens and signal.lots or '0'
  local trace = {}
  for name, value in pairs(fields.trace or {}) do
    trace[#trace + 1] = string.format('"%s":%.0f', name, value)
  end
  redis.call('XADD', KEYS[1], '*', 'report', '{"order_id":"' .. order_id .. '","signal_id":"' .. signal.signal_id
    .. '","terminal_id":"' .. fields.terminal_id .. '","report_seq":0,"state":"QUEUED","action":"' .. signal.action
    .. '","symbol":"' .. symbol .. '","side":' .. side .. ',"lots":"' .. lots
    .. '","time_ms":' .. string.format('%.0f', fields.accepted_ms) .. ',"user_id":'
    .. string.format('%.0f', fields.user_id) .. ',"trace":{' .. table.concat(trace, ',') .. '}}')
end

-- The signal of a leg whose record was lost with it: enough to be shown, and marked, so that accept completes it.
local function restore_signal(key, order_id, leg, fields)
  local body = string.sub(leg, 11, string.find(leg, ',"digest":"', 1, true) - 1)
  if fields.leg_seq > tonumber(redis.call('GET', KEYS[6]) or '0') then
    redis.call('SET', KEYS[6], string.format('%.0f', fields.leg_seq))  -- no number is given out twice
  end
  local signal = redis.call('HMGET', key, 'orders', 'partial')
  if not signal[1] then
    redis.call('HSET', key, 'body', body, 'digest', fields.digest, 'user_id', string.format('%.0f', fields.user_id),
      'username', '', 'source', '', 'accepted_ms', string.format('%.0f', fields.accepted_ms),
      'deadline_ms', string.format('%.0f', fields.deadline_ms), 'orders', '["' .. order_id .. '"]', 'partial', '1')
    redis.call('ZADD', KEYS[5], string.format('%.0f', fields.accepted_ms), fields.signal.signal_id)
  elseif signal[2] == '1' and not string.find(signal[1], '"' .. order_id .. '"', 1, true) then
    redis.call('HSET', key, 'orders', string.sub(signal[1], 1, -2) .. ',"' .. order_id .. '"]')
  end
end

local fresh = 0
local position = ARGV[3] ~= '' and ARGV[3] or string.format('%.0f', reached)
for i = 0, (#KEYS - 6) / 2 - 1 do
  local order_key = KEYS[7 + i * 2]
  local base = 4 + i * 8
  local order_id, seq, state = ARGV[base], tonumber(ARGV[base + 1]), ARGV[base + 2]
  local settled, deadline = ARGV[base + 3] == '1', ARGV[base + 5]
  position = ARGV[base + 4]
  local known = redis.call('HMGET', order_key, 'report_seq', 'state')
  if not known[1] then
    -- the store was rolled back behind this order: make its record again from the journal's leg
    redis.call('HSET', order_key, 'leg', ARGV[base + 7], 'overdue', '0')
    local fields = cjson.decode(ARGV[base + 7])
    restore_signal(KEYS[8 + i * 2], order_id, ARGV[base + 7], fields)
    restore_first_report(order_id, fields)
  end
  -- a restored journal may count on from behind: what has ended here does not open again
  if not known[1] or (tonumber(known[1]) < seq and (settled or not ended[known[2]])) then
    redis.call('HSET', order_key, 'state', state, 'report_seq', ARGV[base + 1], 'report', ARGV[base + 6])
    redis.call('XADD', KEYS[1], '*', 'report', ARGV[base + 6])
    redis.call('ZREM', KEYS[4], order_id)
    if settled then
      redis.call('ZREM', KEYS[3], order_id)
      redis.call('HSET', order_key, 'overdue', '0')
    else
      redis.call('ZADD', KEYS[3], deadline, order_id)
    end
    fresh = fresh + 1
  end
end
-- a call that was overtaken by a later one takes nothing back; one without reports says where the journal stands
if #KEYS > 6 and reached > tonumber(position) then position = held[2] end
redis.call('HSET', KEYS[2], 'journal_id', ARGV[1], 'epoch', ARGV[2], 'position', position)
return fresh
