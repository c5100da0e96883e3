-- Reads when the last heartbeats of members came. `common.lua` lists the keys.
--
-- ARGV[1]     prefix
-- ARGV[2...]  members
--
-- Returns for each member when its last heartbeat came, or an empty string if it is offline.

local answer = {}
for i = 2, #ARGV do
  local held = redis.call('HMGET', ARGV[1] .. 'member:' .. ARGV[i], 'online', 'heartbeat')
  answer[i - 1] = held[1] == '1' and held[2] or ''
end
return answer
