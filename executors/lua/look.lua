-- What the store has of signals and orders that a web process keeps in its spool.
--
-- KEYS  signals and orders, in any order
-- Returns for each: the order's state; SIGNAL, or PARTIAL for one that an executor made again; "" when it is lost.

local answer = {}
for i, key in ipairs(KEYS) do
  local held = redis.call('HMGET', key, 'state', 'digest', 'partial')
  if held[1] then
    answer[i] = held[1]
  elseif held[2] then
    answer[i] = held[3] == '1' and 'PARTIAL' or 'SIGNAL'
  else
    answer[i] = ''
  end
end
return answer
