-- Reads some of the topics of a node, with their viewers at all nodes. `common.lua` lists the keys.
--
-- ARGV[1]  prefix
-- ARGV[2]  node
-- ARGV[3]  cursor in the set of its topics
-- ARGV[4]  what the topics must begin with
--
-- Returns {next cursor, topic, viewers, topic, viewers...}. A topic that other living nodes have,
-- too, is returned for each of them.

local prefix, node, begin = ARGV[1], ARGV[2], ARGV[4]
local scanned = redis.call('SSCAN', prefix .. 'topics:' .. node, ARGV[3], 'COUNT', 500)
local answer, alive = {scanned[1]}, {}

local function is_alive(name)
  if alive[name] == nil then
    alive[name] = redis.call('EXISTS', prefix .. 'node:' .. name) == 1
  end
  return alive[name]
end

for _, topic in ipairs(scanned[2]) do
  if string.sub(topic, 1, #begin) == begin then
    local row = redis.call('HGETALL', prefix .. 'row:' .. topic)
    local viewers = 0
    for i = 1, #row, 2 do
      if is_alive(row[i]) then
        viewers = viewers + tonumber(row[i + 1])
      end
    end
    if viewers > 0 then
      answer[#answer + 1] = topic
      answer[#answer + 1] = viewers
    end
  end
end
return answer
