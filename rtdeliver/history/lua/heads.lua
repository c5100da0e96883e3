-- Reads which events were stored last. `common.lua` runs before this.
--
-- ARGV[4...]  the topics
--
-- Returns {how many events were stored in all, then for each topic: epoch, number, time...}. The
-- epoch is empty if nothing is known of the topic.

local answer = {text(store.count)}
for i = 4, #ARGV do
  local meta = read_meta(ARGV[i])
  answer[#answer + 1] = meta and meta.epoch or ''
  answer[#answer + 1] = text(meta and meta.number or 0)
  answer[#answer + 1] = text(meta and meta.at or 0)
end
return answer
