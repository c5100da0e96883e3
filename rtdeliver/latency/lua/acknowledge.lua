-- Removes records of a partition that are needed no longer.
--
-- ARGV[1]     prefix
-- ARGV[2]     partition
-- ARGV[3...]  ids of the records
--
-- Returns 1.

local key = ARGV[1] .. 'latency:records:' .. ARGV[2]
for i = 3, #ARGV do
  redis.pcall('XACK', key, 'joiners', ARGV[i])
  redis.call('XDEL', key, ARGV[i])
end
return 1
