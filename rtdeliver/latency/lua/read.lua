-- Reads new records of some partitions.
--
-- ARGV[1]     prefix
-- ARGV[2]     joiner
-- ARGV[3]     how many records to read of a partition at most
-- ARGV[4]     for how many milliseconds records are wanted from now on
-- ARGV[5...]  partitions
--
-- Returns {partition, id, record} for each record.

redis.call('SET', ARGV[1] .. 'latency:wanted', ARGV[2], 'PX', ARGV[4])
local answer = {}
for i = 5, #ARGV do
  local key = ARGV[1] .. 'latency:records:' .. ARGV[i]
  local function read()
    return redis.pcall('XREADGROUP', 'GROUP', 'joiners', ARGV[2], 'COUNT', ARGV[3],
      'STREAMS', key, '>')
  end
  local found = read()
  if found and found.err then
    redis.call('XGROUP', 'CREATE', key, 'joiners', '0', 'MKSTREAM')
    found = read()
  end
  if found and found[1] then
    for _, entry in ipairs(found[1][2]) do
      answer[#answer + 1] = {tonumber(ARGV[i]), entry[1], entry[2][2]}
    end
  end
end
return answer
