-- Reads the row of a topic. `common.lua` lists the keys.
--
-- ARGV[1]     prefix
-- ARGV[2]     topic
-- ARGV[3...]  further nodes to return, whether or not the row has them
--
-- Returns for each node in the row, and for each further node:
--   {name, viewers, url, incarnation, known, milliseconds until its lease ends}
-- A dead node has an empty url.

local prefix, row = ARGV[1], redis.call('HGETALL', ARGV[1] .. 'row:' .. ARGV[2])
local names, viewers = {}, {}
for i = 1, #row, 2 do
  names[#names + 1] = row[i]
  viewers[row[i]] = row[i + 1]
end
for i = 3, #ARGV do
  if not viewers[ARGV[i]] then
    names[#names + 1] = ARGV[i]
  end
end

local answer = {}
for i, name in ipairs(names) do
  local node_key = prefix .. 'node:' .. name
  local node = redis.call('HMGET', node_key, 'url', 'incarnation', 'known')
  answer[i] = {name, viewers[name] or '0', node[1] or '', node[2] or '', node[3] or '0',
    redis.call('PTTL', node_key)}
end
return answer
