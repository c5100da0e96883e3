-- Reads the row of a topic. `common.lua` lists the keys.
--
-- ARGV[1]     prefix
-- ARGV[2]     topic
-- ARGV[3...]  further nodes to return, whether or not the row has them
--
-- Returns {born, age, lost, node...}:
--   born  when the table was begun; empty if it has not been
--   age   how many milliseconds ago that was
--   lost  1 if frontends had announced themselves before that, otherwise 0
--   node  {name, viewers, url, incarnation, known, milliseconds until its lease ends}, for each node
--         in the row and each further node. A dead node has an empty url.

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

local time = redis.call('TIME')
local held = redis.call('HMGET', prefix .. 'table', 'born', 'lost')
local age = held[1] and time[1] * 1000 + math.floor(time[2] / 1000) - held[1] or 0
local answer = {held[1] or '', age, held[2] and 1 or 0}
for _, name in ipairs(names) do
  local node_key = prefix .. 'node:' .. name
  local node = redis.call('HMGET', node_key, 'url', 'incarnation', 'known')
  answer[#answer + 1] = {name, viewers[name] or '0', node[1] or '', node[2] or '', node[3] or '0',
    redis.call('PTTL', node_key)}
end
return answer
