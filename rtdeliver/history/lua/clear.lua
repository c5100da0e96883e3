-- Removes all events of a topic; the numbers of later ones go on.
--
-- ARGV[1]  prefix
-- ARGV[2]  the topic
--
-- Returns how many there were.

local key = ARGV[1] .. 'history:' .. ARGV[2]
local count = redis.call('XLEN', key)
redis.call('DEL', key, ARGV[1] .. 'history-ids:' .. ARGV[2])
return count
