-- Reads what was joined of some partitions.
--
-- ARGV[1]     prefix
-- ARGV[2...]  partitions
--
-- Returns for each partition what was kept, or an empty string.

local answer = {}
for i = 2, #ARGV do
  answer[i - 1] = redis.call('GET', ARGV[1] .. 'latency:joined:' .. ARGV[i]) or ''
end
return answer
